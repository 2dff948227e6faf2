"""How the models that ship with the toolkit were trained. Not part of the installed package."""
