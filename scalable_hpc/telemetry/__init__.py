"""What a run did, for people: reports made of its journal, and a live display.

Rule 1: a report says nothing that is not in the journal; a torn or half-written journal still gives one.
Rule 2: the display only shows what it is handed; it asks nobody.
"""
