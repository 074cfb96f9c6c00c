"""Three-way merges of whole files: bytes in, bytes and the places of conflicts out. Nothing here touches a file.

    versions    what goes in, and what comes out
    documents   JSON by field
    marked      such a document where changes meet
    entries     the lines of logs, as they are compared
    logs        JSON lines by entry
    notes       Markdown: the text by line, the front matter by field
    lines       any text by line; what the others fall back to, and how conflicts are marked
    stamps      times and amounts that two sides change without disagreeing
    files       which of these a file is merged by

`ours` is the side whose layout and order stay; `theirs` is laid over it.
"""
