"""What a change of the weights would do, before it is made, on stored pages; and what it has done since."""
