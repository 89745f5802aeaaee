"""The full screen of `ctobserve top`: what is seen, how it is drawn, and Textual, which nobody else imports."""
