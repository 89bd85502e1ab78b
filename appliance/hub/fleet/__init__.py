"""Which hosts there are, how they are, and which have gone silent."""
