"""Pages for people who signed in: the numbers of the API, drawn and listed."""
