"""Figures: functions from tidy tables to plotly figures, one file per experiment. They read no model and no file."""
