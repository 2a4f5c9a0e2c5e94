"""Lists of usage, without HTTP: their parameters, their rows and the columns of these rows."""
