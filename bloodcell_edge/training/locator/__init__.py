"""Training the locator: from pictures with boxes to a network that finds white cells."""
