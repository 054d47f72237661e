"""Telling people: notices to Alertmanager, webhooks, CloudEvents and Slack-compatible receivers (S4.6).

`Dispatcher.tell` only puts a notice into each receiver's ledger (ledger.py: what must still be sent, bounded, kept over
a restart). One worker for each receiver sends from it (worker.py, post.py), so that a slow or hostile one delays
nobody, and never a bypass. guard.py says where a message may go at all.
"""
