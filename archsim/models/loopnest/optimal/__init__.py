"""The certified mapper: the best mapping of a stated space, with the proof that it is.

See ``solve.py`` for the method, ``enumeration.py`` for the enumeration it is checked against.
"""
