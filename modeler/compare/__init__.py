"""Two to ten runs and stored models side by side: what differs, and how they answer the rows that none trained on."""
