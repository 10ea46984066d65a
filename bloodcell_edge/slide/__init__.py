"""A slide: the loop that counts it, its file of results, its differential, exports."""
