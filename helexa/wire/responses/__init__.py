"""OpenAI's Responses API: requests read into chats, answers written from completions, other servers' answers passed on.

Source: OpenAI API reference, "Responses" and "Streaming events".
"""
