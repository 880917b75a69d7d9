"""Drivers that are batch jobs themselves: a chain of links, each one batch job that runs the script for a while.

A link submits its successor before it begins, to start after it however it ends; so a chain outlives walltimes, node
failures and kills. It ends when the script has ended, or when a link gets nowhere.
"""
