"""Job scripts: a frozen context, Jinja templates, and filters that every value must pass.

Rule 1: a value that reaches a directive or a shell unfiltered is an error of the template, found when it is rendered.
"""
