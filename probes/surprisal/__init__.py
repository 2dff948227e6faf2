"""How surprising is every word of your own texts? Four files: settings, measure, summaries, experiment."""
