// Endpoints, addresses and cryptography are in the signatures of nearly everything here, and whoever drives these
// machines needs them and nothing else of STUN.
@_exported import STUN
