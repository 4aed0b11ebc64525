"""DR status: are we protected, could we recover, how long would it take, when was it proven."""
