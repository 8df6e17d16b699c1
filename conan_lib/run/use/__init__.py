"""What is done with a model that is there, ours or anybody's: search texts, mine hard negatives, evaluate it."""
