"""Answers to 'where did this come from': passports, visitor logs, concept maps."""
