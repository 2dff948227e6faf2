"""Writes what minicons says of 200 sentences: minicons_words.csv, which test_surprisal.py holds the experiment against.

    pip install minicons==0.3.39
    python minicons_words.py sentences.txt FOLDER_OF_SMOLLM2_135M > minicons_words.csv

Run outside the toolkit's environment. The sentences are the first of 200 articles of the toolkit's news prose, as
`Surprisal().read_texts()` takes them.
"""

import csv
import sys
from pathlib import Path

from minicons.scorer import IncrementalLMScorer


def main() -> None:
    """Scores every sentence behind the beginning of a sequence, words as they stand between blanks.

    Without that beginning minicons scores one token fewer and leaves its words where they were: each is one token late.
    """
    sentences = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    scorer = IncrementalLMScorer(sys.argv[2], "cpu")
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["sentence", "word_index", "word", "surprisal_nats"])
    for number, sentence in enumerate(sentences):
        (words,) = scorer.word_score_tokenized(sentence, tokenize_function=str.split, bos_token=True, surprisal=True)
        for index, (word, nats) in enumerate(words):
            rows.writerow([number, index, word, f"{nats:.6f}"])


main()
