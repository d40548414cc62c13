"""The words that every part of Headrace speaks: events, views, examples, versions, topics and errors."""
