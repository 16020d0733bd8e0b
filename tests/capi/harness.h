/*
 * What every C program of this directory shares: opening one endpoint with everything it needs, waiting for
 * completions with a limit, and two processes that exchange their addresses over a socket pair.
 * Nothing here may hide a failure: every helper either does what its name says or ends the program.
 *
 * RDGRAM_TEST_PROVIDER names the provider under test (default: rdgram), so that a program can be tried on
 * libfabric's own providers. Exit status: 0 passed, 77 cannot run here (the last line says why), else failed.
 */
#ifndef RDGRAM_TESTS_HARNESS_H
#define RDGRAM_TESTS_HARNESS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_eq.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <rdma/fi_tagged.h>

#define UNUSED __attribute__((unused))

/* A completion that takes longer is a hang: the program says what it waited for and fails. */
enum { WAIT_SECONDS = 30 };
/* Beyond this the program ends itself, wherever it is. */
enum { PROGRAM_SECONDS = 100 };
enum { NAME_BYTES = 64, STATUS_SKIPPED = 77 };

static const char *harness_role = "";

static inline void fail_at(const char *file, int line, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));
static inline void fail_at(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "%s:%d: %s%s", file, line, harness_role, *harness_role ? ": " : "");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    fflush(NULL);
    /* Not exit(): a broken provider must not get the chance to hang in a destructor. */
    _exit(1);
}

static inline void skip(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
static inline void skip(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    _exit(STATUS_SKIPPED);
}

#define FAIL(...) fail_at(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(condition, format, ...)                                                                        \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            FAIL("expected %s: " format, #condition, ##__VA_ARGS__);                                         \
    } while (0)
/* The call returns exactly this value (0 or a negative fabric error). */
#define RETURNS(expected, call)                                                                              \
    do {                                                                                                     \
        ssize_t returned_ = (call), expected_ = (expected);                                                  \
        if (returned_ != expected_)                                                                          \
            FAIL("%s returned %zd (%s), expected %zd (%s)", #call, returned_,                                \
                 returned_ < 0 ? fi_strerror((int)-returned_) : "", expected_,                               \
                 expected_ < 0 ? fi_strerror((int)-expected_) : "");                                         \
    } while (0)
#define OK(call) RETURNS(0, call)

static inline double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void watchdog(int signal UNUSED)
{
    static const char message[] = "the program did not end in time\n";
    ssize_t ignored = write(STDERR_FILENO, message, sizeof message - 1);
    (void)ignored;
    _exit(1);
}

/* To be called first, in every process. */
UNUSED static void begin(const char *role)
{
    harness_role = role;
    signal(SIGALRM, watchdog);
    alarm(PROGRAM_SECONDS);
    setvbuf(stdout, NULL, _IOLBF, 0);
}

UNUSED static const char *provider_name(void)
{
    const char *name = getenv("RDGRAM_TEST_PROVIDER");
    return name != NULL && *name != '\0' ? name : "rdgram";
}

UNUSED static bool provider_is_ours(void)
{
    return strcmp(provider_name(), "rdgram") == 0;
}

/* Bytes that depend on a seed and on their place, so that a shift or an exchange shows. */
UNUSED static uint8_t pattern_at(uint64_t seed, size_t at)
{
    uint64_t x = (seed + 1) * 0x9e3779b97f4a7c15u + (uint64_t)at * 0xbf58476d1ce4e5b9u;
    x ^= x >> 29;
    x *= 0x94d049bb133111ebu;
    return (uint8_t)(x >> 56);
}

UNUSED static void pattern_fill(void *buffer, size_t length, uint64_t seed)
{
    for (size_t i = 0; i < length; i++)
        ((uint8_t *)buffer)[i] = pattern_at(seed, i);
}

UNUSED static void pattern_check(const void *buffer, size_t length, uint64_t seed, const char *what)
{
    for (size_t i = 0; i < length; i++) {
        uint8_t expected = pattern_at(seed, i), actual = ((const uint8_t *)buffer)[i];
        if (expected != actual)
            FAIL("%s: byte %zu of %zu is 0x%02x, expected 0x%02x", what, i, length, actual, expected);
    }
}

/* ---- one endpoint with all it needs ---- */

/* What a program wants; zero fields mean the usual. */
struct wish {
    uint64_t caps;            /* default: FI_MSG | FI_TAGGED */
    enum fi_threading threading; /* default: FI_THREAD_DOMAIN */
    enum fi_progress data_progress; /* default: FI_PROGRESS_MANUAL */
    enum fi_av_type av_type;  /* default: FI_AV_TABLE */
    enum fi_cq_format format; /* default: FI_CQ_FORMAT_TAGGED */
    enum fi_wait_obj wait;    /* default: FI_WAIT_NONE */
    uint64_t tx_op_flags;
    uint64_t cq_bind_flags;   /* added to FI_TRANSMIT | FI_RECV, for instance FI_SELECTIVE_COMPLETION */
    uint32_t addr_format;
    const char *node;         /* source address */
    const char *service;
    bool counters;            /* bind a transmit and a receive counter */
    bool optional;            /* no such endpoint: skip the program instead of failing it */
};

struct node {
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain;
    struct fid_av *av;
    struct fid_cq *cq;
    struct fid_cntr *tx_counter, *rx_counter;
    struct fid_ep *ep;
    uint8_t name[NAME_BYTES];
    size_t name_length;
};

UNUSED static struct fi_info *make_hints(const struct wish *wish)
{
    struct fi_info *hints = fi_allocinfo();
    CHECK(hints != NULL, "no memory");
    hints->caps = wish->caps != 0 ? wish->caps : FI_MSG | FI_TAGGED;
    hints->mode = FI_CONTEXT | FI_CONTEXT2;
    hints->addr_format = wish->addr_format;
    hints->ep_attr->type = FI_EP_RDM;
    hints->fabric_attr->prov_name = strdup(provider_name());
    hints->domain_attr->threading = wish->threading != 0 ? wish->threading : FI_THREAD_DOMAIN;
    hints->domain_attr->av_type = wish->av_type != 0 ? wish->av_type : FI_AV_TABLE;
    hints->domain_attr->control_progress = FI_PROGRESS_MANUAL;
    hints->domain_attr->data_progress = wish->data_progress != 0 ? wish->data_progress : FI_PROGRESS_MANUAL;
    hints->domain_attr->resource_mgmt = FI_RM_ENABLED;
    hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_ENDPOINT | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
    hints->tx_attr->op_flags = wish->tx_op_flags;
    hints->tx_attr->msg_order = FI_ORDER_SAS;
    hints->rx_attr->msg_order = FI_ORDER_SAS;
    return hints;
}

/* Everything but the endpoint. */
UNUSED static void open_domain(struct node *node, const struct wish *wish)
{
    struct fi_info *hints = make_hints(wish);
    uint64_t flags = wish->node != NULL || wish->service != NULL ? FI_SOURCE : 0;
    memset(node, 0, sizeof *node);
    int result = fi_getinfo(FI_VERSION(1, 17), wish->node, wish->service, flags, hints, &node->info);
    if (result == -FI_ENODATA && (wish->optional || !provider_is_ours()))
        skip("%s does not offer what this program needs", provider_name());
    if (result != 0)
        FAIL("fi_getinfo for %s: %s", provider_name(), fi_strerror(-result));
    fi_freeinfo(hints);
    OK(fi_fabric(node->info->fabric_attr, &node->fabric, NULL));
    OK(fi_domain(node->fabric, node->info, &node->domain, NULL));
    struct fi_av_attr av_attr = {.type = node->info->domain_attr->av_type};
    OK(fi_av_open(node->domain, &av_attr, &node->av, NULL));
    struct fi_cq_attr cq_attr = {
        .format = wish->format != 0 ? wish->format : FI_CQ_FORMAT_TAGGED,
        .wait_obj = wish->wait != 0 ? wish->wait : FI_WAIT_NONE,
    };
    OK(fi_cq_open(node->domain, &cq_attr, &node->cq, NULL));
    if (wish->counters) {
        struct fi_cntr_attr attr = {.events = FI_CNTR_EVENTS_COMP, .wait_obj = FI_WAIT_UNSPEC};
        OK(fi_cntr_open(node->domain, &attr, &node->tx_counter, NULL));
        OK(fi_cntr_open(node->domain, &attr, &node->rx_counter, NULL));
    }
}

UNUSED static void open_node(struct node *node, const struct wish *wish)
{
    open_domain(node, wish);
    OK(fi_endpoint(node->domain, node->info, &node->ep, NULL));
    OK(fi_ep_bind(node->ep, &node->av->fid, 0));
    OK(fi_ep_bind(node->ep, &node->cq->fid, FI_TRANSMIT | FI_RECV | wish->cq_bind_flags));
    if (wish->counters) {
        OK(fi_ep_bind(node->ep, &node->tx_counter->fid, FI_SEND));
        OK(fi_ep_bind(node->ep, &node->rx_counter->fid, FI_RECV));
    }
    OK(fi_enable(node->ep));
    node->name_length = sizeof node->name;
    OK(fi_getname(&node->ep->fid, node->name, &node->name_length));
}

UNUSED static void close_node(struct node *node)
{
    if (node->ep != NULL)
        OK(fi_close(&node->ep->fid));
    if (node->tx_counter != NULL)
        OK(fi_close(&node->tx_counter->fid));
    if (node->rx_counter != NULL)
        OK(fi_close(&node->rx_counter->fid));
    OK(fi_close(&node->cq->fid));
    OK(fi_close(&node->av->fid));
    OK(fi_close(&node->domain->fid));
    OK(fi_close(&node->fabric->fid));
    fi_freeinfo(node->info);
    memset(node, 0, sizeof *node);
}

UNUSED static fi_addr_t insert(struct node *node, const void *name)
{
    fi_addr_t address = FI_ADDR_NOTAVAIL;
    RETURNS(1, fi_av_insert(node->av, name, 1, &address, 0, NULL));
    CHECK(address != FI_ADDR_NOTAVAIL, "the address was not inserted");
    return address;
}

/* ---- completions ---- */

/* One completion, or 0 after `seconds`; an error entry or another failure ends the program. */
UNUSED static int completion_within(struct node *node, struct fi_cq_tagged_entry *entry, double seconds)
{
    double limit = now_seconds() + seconds;
    for (;;) {
        ssize_t result = fi_cq_read(node->cq, entry, 1);
        if (result == 1)
            return 1;
        if (result == -FI_EAVAIL) {
            struct fi_cq_err_entry error = {0};
            RETURNS(1, fi_cq_readerr(node->cq, &error, 0));
            FAIL("a completion in error: %s (len %zu, olen %zu, flags 0x%" PRIx64 ")", fi_strerror(error.err),
                 error.len, error.olen, error.flags);
        }
        if (result != -FI_EAGAIN)
            FAIL("fi_cq_read: %zd (%s)", result, fi_strerror((int)-result));
        if (now_seconds() > limit)
            return 0;
    }
}

UNUSED static void completion_at(const char *file, int line, struct node *node, struct fi_cq_tagged_entry *entry)
{
    if (!completion_within(node, entry, WAIT_SECONDS))
        fail_at(file, line, "no completion within %d s", WAIT_SECONDS);
}
#define completion(node, entry) completion_at(__FILE__, __LINE__, node, entry)

/* The next completion has this context. */
UNUSED static void completion_of_at(const char *file, int line, struct node *node, const void *context,
                                    struct fi_cq_tagged_entry *entry)
{
    completion_at(file, line, node, entry);
    if (entry->op_context != context)
        fail_at(file, line, "a completion of another operation: context %p, expected %p, flags 0x%" PRIx64,
                entry->op_context, context, entry->flags);
}
#define completion_of(node, context, entry) completion_of_at(__FILE__, __LINE__, node, context, entry)

/* The next completion is an error entry; returns it. */
UNUSED static void error_completion_at(const char *file, int line, struct node *node,
                                       struct fi_cq_err_entry *error, double seconds)
{
    double limit = now_seconds() + seconds;
    struct fi_cq_tagged_entry entry;
    for (;;) {
        ssize_t result = fi_cq_read(node->cq, &entry, 1);
        if (result == -FI_EAVAIL)
            break;
        if (result != -FI_EAGAIN)
            fail_at(file, line, "expected an error entry, fi_cq_read returned %zd", result);
        if (now_seconds() > limit)
            fail_at(file, line, "no error entry within %.0f s", seconds);
    }
    memset(error, 0, sizeof *error);
    ssize_t result = fi_cq_readerr(node->cq, error, 0);
    if (result != 1)
        fail_at(file, line, "fi_cq_readerr returned %zd", result);
}
#define error_completion(node, error) error_completion_at(__FILE__, __LINE__, node, error, WAIT_SECONDS)

/* No completion comes within a short while of progress. */
UNUSED static void no_completion_at(const char *file, int line, struct node *node)
{
    struct fi_cq_tagged_entry entry;
    if (completion_within(node, &entry, 0.05))
        fail_at(file, line, "an unexpected completion, flags 0x%" PRIx64 ", len %zu", entry.flags, entry.len);
}
#define no_completion(node) no_completion_at(__FILE__, __LINE__, node)

/* Progress without taking a completion: reading none of them is a legal read. */
UNUSED static void progress(struct node *node)
{
    ssize_t result = fi_cq_read(node->cq, NULL, 0);
    CHECK(result == 0 || result == -FI_EAGAIN || result == -FI_EAVAIL, "fi_cq_read of nothing: %zd", result);
}

/* As an event loop does it: sleeps on the queue's descriptor, unless trywait says that something is to be read. */
UNUSED static void sleep_on(struct node *node, int fd)
{
    struct fid *fids[] = {&node->cq->fid};
    int result = fi_trywait(node->fabric, fids, 1);
    if (result == 0) {
        struct pollfd pollfd = {.fd = fd, .events = POLLIN};
        CHECK(poll(&pollfd, 1, 1000 * WAIT_SECONDS) == 1, "the descriptor never fires");
    } else {
        RETURNS(-FI_EAGAIN, result);
    }
}

/* Repeat a call while it returns -FI_EAGAIN, making progress, with a limit. */
#define RETRY(node, call)                                                                                    \
    do {                                                                                                     \
        double limit_ = now_seconds() + WAIT_SECONDS;                                                        \
        ssize_t result_;                                                                                     \
        while ((result_ = (call)) == -FI_EAGAIN) {                                                           \
            progress(node);                                                                                  \
            if (now_seconds() > limit_)                                                                      \
                FAIL("%s still returns -FI_EAGAIN after %d s", #call, WAIT_SECONDS);                         \
        }                                                                                                    \
        if (result_ != 0)                                                                                    \
            FAIL("%s returned %zd (%s)", #call, result_, fi_strerror((int)-result_));                        \
    } while (0)

/* ---- two processes ---- */

/* The other process, reached over a socket pair that no fabric is involved in. */
struct peer {
    pid_t pid; /* 0 in the child */
    int fd;
    fi_addr_t address;
};

/* Start the second process. To be called before anything of libfabric. Returns true in the child. */
UNUSED static bool start_peer(struct peer *peer)
{
    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0, "%s", strerror(errno));
    peer->pid = fork();
    CHECK(peer->pid >= 0, "%s", strerror(errno));
    peer->fd = fds[peer->pid == 0];
    close(fds[peer->pid != 0]);
    peer->address = FI_ADDR_NOTAVAIL;
    begin(peer->pid == 0 ? "second process" : "first process");
    return peer->pid == 0;
}

UNUSED static void tell(struct peer *peer, const void *data, size_t length)
{
    CHECK(write(peer->fd, data, length) == (ssize_t)length, "the other process is gone");
}

UNUSED static void hear(struct peer *peer, void *data, size_t length)
{
    for (size_t got = 0; got < length;) {
        ssize_t result = read(peer->fd, (char *)data + got, length - got);
        CHECK(result > 0, "the other process is gone");
        got += (size_t)result;
    }
}

/* Both processes reach this point; progress is made while waiting, as a running application would. */
UNUSED static void meet(struct peer *peer, struct node *node)
{
    char token = 'm';
    struct pollfd wait = {.fd = peer->fd, .events = POLLIN};
    tell(peer, &token, 1);
    while (poll(&wait, 1, 0) == 0)
        if (node != NULL)
            progress(node);
    hear(peer, &token, 1);
    CHECK(token == 'm', "the processes are out of step");
}

UNUSED static void tell_name(struct peer *peer, struct node *node)
{
    tell(peer, &node->name_length, sizeof node->name_length);
    tell(peer, node->name, sizeof node->name);
}

UNUSED static void hear_name(struct peer *peer, uint8_t *name)
{
    size_t length;
    hear(peer, &length, sizeof length);
    CHECK(length <= NAME_BYTES, "a name of %zu bytes", length);
    hear(peer, name, NAME_BYTES);
}

/* Exchange names and insert the other's. */
UNUSED static void introduce(struct peer *peer, struct node *node)
{
    uint8_t name[NAME_BYTES];
    tell_name(peer, node);
    hear_name(peer, name);
    peer->address = insert(node, name);
}

/* The end of a two-process program: the first process returns the verdict of both. */
UNUSED static int finish_peer(struct peer *peer)
{
    int status;
    if (peer->pid == 0) {
        fflush(NULL);
        return 0;
    }
    CHECK(waitpid(peer->pid, &status, 0) == peer->pid, "%s", strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_SKIPPED)
        return STATUS_SKIPPED;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        FAIL("the second process ended with status 0x%x", (unsigned)status);
    return 0;
}

#endif
