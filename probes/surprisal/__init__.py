"""How surprising is every word of one's own texts? Four files: settings, measure, summaries, experiment."""
