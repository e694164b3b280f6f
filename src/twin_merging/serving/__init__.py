"""Serves a merged model to clients of OpenAI's interface: one batch answers requests of different tasks."""
