"""Pages for people who signed in: the numbers of the API as charts and tables."""
