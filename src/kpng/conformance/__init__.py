"""Does a backend do what kube-proxy does? Recorded scenarios, real packets, and a table of what came of them.

`packetflows` replays scenarios through the file source, the store, localize and a backend in a private network
namespace; `topology` holds endpoint choice against recorded cases. The data is in ``data/``, and any file of the
same form can take its place.
"""
