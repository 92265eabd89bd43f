// OpenSSL 3 as Swift sees it. Macros become functions here, so that no other C target is needed.
#pragma once

#include <arpa/inet.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

// Sets the digest of a MAC context. Kept in C, since OSSL_PARAM arrays point at their own values.
static inline int turnpike_mac_set_digest(EVP_MAC_CTX *context, const char *digest) {
    OSSL_PARAM parameters[2] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(context, parameters);
}

// A key too, for a context that OpenSSL initialises itself.
static inline int turnpike_mac_set_key_and_digest(
    EVP_MAC_CTX *context, const unsigned char *key, size_t length, const char *digest
) {
    OSSL_PARAM parameters[3] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)key, length),
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

// Options, which OpenSSL spells as macros of macros.
static const uint64_t turnpike_op_no_compression = SSL_OP_NO_COMPRESSION;
static const uint64_t turnpike_op_no_renegotiation = SSL_OP_NO_RENEGOTIATION;
static const uint64_t turnpike_op_no_query_mtu = SSL_OP_NO_QUERY_MTU;
static const uint64_t turnpike_op_no_ticket = SSL_OP_NO_TICKET;

// Settings of a context, which OpenSSL spells as macros over SSL_CTX_ctrl.
static inline int turnpike_ctx_set_versions(SSL_CTX *context, int lowest, int highest) {
    return SSL_CTX_set_min_proto_version(context, lowest) == 1 && SSL_CTX_set_max_proto_version(context, highest) == 1;
}

static inline int turnpike_ctx_set_groups(SSL_CTX *context, const char *groups) {
    return (int)SSL_CTX_set1_groups_list(context, groups);
}

static inline void turnpike_ctx_set_mode(SSL_CTX *context, long mode) {
    SSL_CTX_set_mode(context, mode);
}

static inline void turnpike_ctx_disable_session_cache(SSL_CTX *context) {
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}

static inline void turnpike_ctx_set_longest_message(SSL_CTX *context, long bytes) {
    SSL_CTX_set_max_cert_list(context, bytes);
}

// Settings and questions of a session, likewise.
static inline void turnpike_ssl_set_app_data(SSL *ssl, void *data) {
    SSL_set_app_data(ssl, data);
}

static inline void *turnpike_ssl_app_data(const SSL *ssl) {
    return SSL_get_app_data(ssl);
}

static inline void turnpike_ssl_set_message_argument(SSL *ssl, void *argument) {
    SSL_set_msg_callback_arg(ssl, argument);
}

static inline int turnpike_ssl_set_mtu(SSL *ssl, long bytes) {
    return (int)SSL_set_mtu(ssl, bytes);
}

// The name that a client asks for (RFC 6066 section 3).
static inline int turnpike_ssl_set_host_name(SSL *ssl, const char *name) {
    return (int)SSL_set_tlsext_host_name(ssl, name);
}

// Whether the keys are bound to the whole handshake (RFC 7627); to be asked once it is over.
static inline int turnpike_ssl_has_extended_master_secret(SSL *ssl) {
    return SSL_get_extms_support(ssl) == 1;
}

// Microseconds until the flight in the air has to be sent again; -1 where none is.
static inline long turnpike_dtls_timeout_microseconds(SSL *ssl) {
    struct timeval left;
    if (DTLSv1_get_timeout(ssl, &left) != 1) return -1;
    return (long)left.tv_sec * 1000000 + (long)left.tv_usec;
}

static inline int turnpike_dtls_handle_timeout(SSL *ssl) {
    return (int)DTLSv1_handle_timeout(ssl);
}

// HKDF-Expand (RFC 5869 section 2.3).
static inline int turnpike_hkdf_expand(
    const char *digest, const unsigned char *secret, size_t secret_length, const unsigned char *info,
    size_t info_length, unsigned char *output, size_t output_length
) {
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY, result = 0;
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    EVP_KDF_free(kdf);
    if (context) {
        OSSL_PARAM parameters[5] = {
            OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
            OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)digest, 0),
            OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret, secret_length),
            OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info, info_length),
            OSSL_PARAM_construct_end(),
        };
        result = EVP_KDF_derive(context, output, output_length, parameters) == 1;
    }
    EVP_KDF_CTX_free(context);
    return result;
}

// The keys of a session by TLS 1.2 (RFC 5246 section 6.3), also before its handshake is over.
static inline int turnpike_ssl_key_block(SSL *ssl, unsigned char *output, size_t length) {
    static const char label[] = "key expansion";
    unsigned char secret[SSL_MAX_MASTER_KEY_LENGTH], seed[sizeof label - 1 + 2 * SSL3_RANDOM_SIZE];
    const SSL_SESSION *session = SSL_get_session(ssl);
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
    const EVP_MD *digest = cipher ? SSL_CIPHER_get_handshake_digest(cipher) : NULL;
    size_t count = session ? SSL_SESSION_get_master_key(session, secret, sizeof secret) : 0;
    if (!digest || count == 0) return 0;
    memcpy(seed, label, sizeof label - 1);
    SSL_get_server_random(ssl, seed + sizeof label - 1, SSL3_RANDOM_SIZE);
    SSL_get_client_random(ssl, seed + sizeof label - 1 + SSL3_RANDOM_SIZE, SSL3_RANDOM_SIZE);
    int result = 0;
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
    EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    EVP_KDF_free(kdf);
    if (context) {
        OSSL_PARAM parameters[4] = {
            OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)EVP_MD_get0_name(digest), 0),
            OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, secret, count),
            OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof seed),
            OSSL_PARAM_construct_end(),
        };
        result = EVP_KDF_derive(context, output, length, parameters) == 1;
    }
    EVP_KDF_CTX_free(context);
    OPENSSL_cleanse(secret, sizeof secret);
    return result;
}

static inline int turnpike_aead_set_tag(EVP_CIPHER_CTX *context, const void *tag, int length) {
    return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, length, (void *)tag);
}

static inline int turnpike_aead_get_tag(EVP_CIPHER_CTX *context, void *tag, int length) {
    return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, length, tag);
}

// Goes on while the machine sleeps.
static inline int64_t turnpike_monotonic_seconds(void) {
    struct timespec now = {0};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec;
}

// Seconds since 1970, UTC, of a certificate's time; -1 where it holds none that can be read.
static inline int64_t turnpike_asn1_time_seconds(const ASN1_TIME *time) {
    struct tm broken;
    memset(&broken, 0, sizeof broken);
    if (ASN1_TIME_to_tm(time, &broken) != 1) return -1;
    return (int64_t)timegm(&broken);
}

// The words for an error of OpenSSL's queue; the system's words where a call to the system failed.
static inline const char *turnpike_error_reason(unsigned long code) {
    if (ERR_SYSTEM_ERROR(code)) return strerror(ERR_GET_REASON(code));
    return ERR_reason_error_string(code);
}

static inline EVP_PKEY *turnpike_generate_p256(void) {
    return EVP_EC_gen("P-256");
}

// The names of a certificate. OpenSSL's stack types are macros, so the list is built here.
static inline void *turnpike_general_names_new(void) {
    return sk_GENERAL_NAME_new_null();
}

static inline void turnpike_general_names_free(void *names) {
    GENERAL_NAMES_free((GENERAL_NAMES *)names);
}

static inline int turnpike_general_names_add(void *names, int type, void *value, void (*release)(void *)) {
    GENERAL_NAME *name = value ? GENERAL_NAME_new() : NULL;
    if (!name) {
        if (value) release(value);
        return 0;
    }
    GENERAL_NAME_set0_value(name, type, value);
    if (sk_GENERAL_NAME_push((GENERAL_NAMES *)names, name) > 0) return 1;
    GENERAL_NAME_free(name);
    return 0;
}

static inline void turnpike_release_string(void *value) {
    ASN1_STRING_free((ASN1_STRING *)value);
}

static inline int turnpike_general_names_add_dns(void *names, const char *host) {
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();
    if (text && ASN1_STRING_set(text, host, -1) != 1) {
        ASN1_STRING_free(text);
        text = NULL;
    }
    return turnpike_general_names_add(names, GEN_DNS, text, turnpike_release_string);
}

static inline int turnpike_general_names_add_address(void *names, const char *address) {
    return turnpike_general_names_add(names, GEN_IPADD, a2i_IPADDRESS(address), turnpike_release_string);
}

static inline void *turnpike_x509_names(const X509 *certificate) {
    return X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
}

static inline int turnpike_general_names_count(const void *names) {
    return sk_GENERAL_NAME_num((const GENERAL_NAMES *)names);
}

// Copies out the name of DNS at a place and returns its length; 0 where something else is there, or more than there is
// room for.
static inline int turnpike_general_names_dns(const void *names, int index, unsigned char *bytes, size_t capacity) {
    const GENERAL_NAME *name = sk_GENERAL_NAME_value((const GENERAL_NAMES *)names, index);
    if (!name || name->type != GEN_DNS) return 0;
    int length = ASN1_STRING_length(name->d.dNSName);
    if (length <= 0 || (size_t)length > capacity) return 0;
    memcpy(bytes, ASN1_STRING_get0_data(name->d.dNSName), (size_t)length);
    return length;
}

// Likewise the text of an address.
static inline int turnpike_general_names_address(const void *names, int index, unsigned char *bytes, size_t capacity) {
    const GENERAL_NAME *name = sk_GENERAL_NAME_value((const GENERAL_NAMES *)names, index);
    if (!name || name->type != GEN_IPADD) return 0;
    int length = ASN1_STRING_length(name->d.iPAddress);
    if (length != 4 && length != 16) return 0;
    const unsigned char *address = ASN1_STRING_get0_data(name->d.iPAddress);
    if (!inet_ntop(length == 4 ? AF_INET : AF_INET6, address, (char *)bytes, (socklen_t)capacity)) return 0;
    return (int)strlen((const char *)bytes);
}
