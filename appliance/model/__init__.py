"""The nouns. Read this room and you know the project. Imports the standard library only."""
