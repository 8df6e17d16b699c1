"""One folder for each question: what it measures, shows and claims."""
