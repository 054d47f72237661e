"""Evidence of a fault, kept at its moment (S4.7): the source restores first and examines afterwards.

admin.py asks the proxy while it still answers, local.py reads what lies on this machine, hotswitch.redact takes out
what is secret, store.py keeps a directory for each fault and forgets the oldest. None of it may hold anything up.
"""
