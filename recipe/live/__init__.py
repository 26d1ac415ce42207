"""Bars of an exchange, and answers to the newest."""
