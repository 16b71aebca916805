"""What people read: tables for a terminal, Markdown, and a page for a browser."""
