"""The manual: ctobserve(8), a page for each command, and the lab's, made of what code and other pages say."""
