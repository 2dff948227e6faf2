"""An experiment of one's own, as small as it gets."""
