"""How surprising is every word of your own texts? Five files: settings, words, measure, summaries, experiment."""
