"""What strangers send, read strictly.

Its files are doors of their own, since boards read metadata, and validation reads boards.
"""
