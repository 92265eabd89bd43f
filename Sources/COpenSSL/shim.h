// OpenSSL 3 as Swift sees it. Macros become functions here, so that no other C target is needed.
#pragma once

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

// Sets the digest of a MAC context. Kept in C, since OSSL_PARAM arrays point at their own values.
static inline int turnpike_mac_set_digest(EVP_MAC_CTX *context, const char *digest) {
    OSSL_PARAM parameters[2] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(context, parameters);
}

static inline int turnpike_mac_init(EVP_MAC_CTX *context, const unsigned char *key, size_t length) {
    return EVP_MAC_init(context, key, length, NULL);
}

static inline const char *turnpike_openssl_version(void) {
    return OpenSSL_version(OPENSSL_VERSION);
}
