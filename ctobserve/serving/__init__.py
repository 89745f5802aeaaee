"""HTTP for one page: connections, TLS, who may ask. It knows nothing of what it serves."""
