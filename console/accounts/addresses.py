"""Where a request comes from: behind a proxy, what the proxy says, if it is one to be believed."""

import ipaddress

from django.conf import settings
from django.http import HttpRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Whoever has an IPv6 address usually has this whole network.
_IPV6_PREFIX_BITS = 64
_UNKNOWN = "unknown"


def client_address(request: HttpRequest) -> str:
    """Return the address of the client, with IPv6 that of its network.

    `X-Forwarded-For` is read from its end, where the nearest proxy has written, for as long as
    proxies in `UNDERSTUDY_TRUSTED_PROXIES` vouch for it.
    """
    forwarded = request.headers.get("X-Forwarded-For", "").split(",")
    found: Address | None = None
    for text in [request.META.get("REMOTE_ADDR", ""), *reversed(forwarded)]:
        try:
            address = ipaddress.ip_address(text.strip())
        except ValueError:
            break
        found = _plain(address)
        if not _is_trusted(found):
            break
    return network_of(found) if found else _UNKNOWN


def network_of(address: Address) -> str:
    """Return what stands for the address in counts."""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    network = ipaddress.ip_network((address, _IPV6_PREFIX_BITS), strict=False)
    return str(network.network_address)


def _plain(address: Address) -> Address:
    return getattr(address, "ipv4_mapped", None) or address


def _is_trusted(address: Address) -> bool:
    return any(address in network for network in settings.UNDERSTUDY_TRUSTED_PROXIES)
