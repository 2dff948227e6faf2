"""Rankings of heads that others made: read from the files of other tools or from our own runs, and written for other tools."""
