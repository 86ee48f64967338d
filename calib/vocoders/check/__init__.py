"""Copy synthesis: natural mels through a vocoder, and what became of them.

Data flow::

    recording x --front end--> V --vocoder--> y --measure--> Copy      (and the same through Griffin-Lim)
    the same x in other domains --vocoder--> y' --measure--> the domain that the vocoder likes
    copies, domains --verdict--> healthy, wrong domain, untrained, wrong rate, deaf, ...
"""
