"""What is in a store and what is wrong with it: facts, pictures of clips, and one HTML page of both."""
