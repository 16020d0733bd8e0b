/*
 * The bandwidth floor: one process sends trains of UDP datagrams (GSO), the other receives them (GRO), by
 * bare system calls, with just enough credit that the receiver's socket does not overflow. Nothing is sent
 * again: what is lost is counted.
 *
 *   floor_stream DIRECTORY SECONDS BUFFER_BYTES SEGMENT_BYTES...     rank from PMI_RANK, 0 sends
 *
 * BUFFER_BYTES is asked for with SO_RCVBUF and SO_SNDBUF. For every segment size there are two runs, with
 * trains as long as a send allows and with one datagram per send. Prints for each
 * "bench: stream segment=N train=N mb_s=F lost=N sent=N stalls=N cpu_s_per_gb=F" (both processes' time).
 */
#define _GNU_SOURCE
#include "meet.h"

#include <netinet/udp.h>
#include <sys/resource.h>

/* Older C libraries do not name them. */
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* The most payload that fits one IPv4 packet, and the most segments that every kernel with GSO takes. */
enum { LARGEST = 65507, MOST_SEGMENTS = 64 };
/* More in flight than this only falls out of the cache. */
enum { MOST_WINDOW = 1 << 20 };
enum { SPINS_PER_CLOCK = 256 };
/* Without credit for so long everything in flight is taken for lost. */
static const double STALL_SECONDS = 0.05;
/* A peer silent for so long has died. */
static const double SILENCE_SECONDS = 10;

enum kind { DATA, CREDIT, LAST, SUMMARY };

/* At the head of every segment; alone in what the receiver answers. */
struct head {
    uint64_t run_and_kind;
    /* Of data: the segment's number. Of credit: one more than the highest number seen. */
    uint64_t sequence;
    /* Only in a summary. */
    uint64_t segments, bytes;
    double seconds, cpu_seconds;
};
/* What data segments begin with; they may be shorter than a whole head. */
enum { DATA_HEAD = 16 };

struct side {
    int fd;
    uint64_t run;
    size_t segment;
    unsigned train;
    size_t window;
    unsigned char buffer[1 << 16];
};

/* Processor time of this process, user and kernel. */
static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static uint64_t run_and_kind(const struct side *side, enum kind kind)
{
    return side->run << 8 | (uint64_t)kind;
}

static int is(const struct side *side, const struct head *head, enum kind kind)
{
    return head->run_and_kind == run_and_kind(side, kind);
}

static void answer(struct side *side, struct head *head, enum kind kind)
{
    head->run_and_kind = run_and_kind(side, kind);
    /* A lost answer is repaired by the sender's stall, or by its next LAST. */
    if (send(side->fd, head, sizeof *head, 0) < 0 && errno != ECONNREFUSED && errno != ENOBUFS)
        die("send: %s", strerror(errno));
}

/* An answer if there is one. */
static int hear(struct side *side, struct head *head)
{
    ssize_t got = recv(side->fd, head, sizeof *head, MSG_DONTWAIT);
    if (got < 0 && errno != EAGAIN && errno != ECONNREFUSED)
        die("receive: %s", strerror(errno));
    return got == sizeof *head;
}

static void send_train(struct side *side, uint64_t sequence)
{
    size_t bytes = side->segment * side->train;
    for (unsigned i = 0; i < side->train; i++) {
        struct head head = {.run_and_kind = run_and_kind(side, DATA), .sequence = sequence + i};
        memcpy(side->buffer + i * side->segment, &head, DATA_HEAD);
    }
    char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
    struct iovec iov = {.iov_base = side->buffer, .iov_len = bytes};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (side->train > 1) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        uint16_t segment = (uint16_t)side->segment;
        header->cmsg_level = SOL_UDP;
        header->cmsg_type = UDP_SEGMENT;
        header->cmsg_len = CMSG_LEN(sizeof segment);
        memcpy(CMSG_DATA(header), &segment, sizeof segment);
    }
    if (sendmsg(side->fd, &message, 0) < 0 && errno != ENOBUFS && errno != ECONNREFUSED)
        die("sendmsg of %u segments of %zu bytes: %s", side->train, side->segment, strerror(errno));
}

/* Waits until fewer than a window is in flight. Returns 1 when no credit came in time. */
static int wait_for_credit(struct side *side, uint64_t sent, uint64_t *credited)
{
    uint64_t in_flight = side->window / side->segment;
    double start = 0;
    for (unsigned spins = 1;; spins++) {
        struct head head;
        while (hear(side, &head))
            if (is(side, &head, CREDIT) && head.sequence > *credited)
                *credited = head.sequence;
        if (sent - *credited + side->train <= in_flight)
            return 0;
        if (spins % SPINS_PER_CLOCK == 0) {
            double now = now_seconds();
            if (start == 0) {
                start = now;
            } else if (now - start > STALL_SECONDS) {
                *credited = sent;
                return 1;
            }
        }
    }
}

static struct head finish(struct side *side)
{
    for (int attempt = 0; attempt < 1000; attempt++) {
        struct head head = {0};
        answer(side, &head, LAST);
        double limit = now_seconds() + STALL_SECONDS;
        while (now_seconds() < limit)
            if (hear(side, &head) && is(side, &head, SUMMARY))
                return head;
    }
    die("the receiver does not answer");
}

static void transmit(struct side *side, double seconds)
{
    uint64_t sent = 0, credited = 0;
    unsigned stalls = 0;
    double cpu = cpu_seconds();
    for (double limit = now_seconds() + seconds; now_seconds() < limit;) {
        stalls += (unsigned)wait_for_credit(side, sent, &credited);
        send_train(side, sent);
        sent += side->train;
    }
    cpu = cpu_seconds() - cpu;
    struct head summary = finish(side);
    double gb = (double)summary.bytes / 1e9;
    printf("bench: stream segment=%zu train=%u mb_s=%.1f lost=%llu sent=%llu stalls=%u cpu_s_per_gb=%.4f\n",
           side->segment, side->train, gb * 1e3 / summary.seconds,
           (unsigned long long)(sent - summary.segments), (unsigned long long)sent, stalls,
           (cpu + summary.cpu_seconds) / gb);
}

/* The size of the segments in a received train; 0 when it is one datagram. */
static size_t segment_of(struct msghdr *message)
{
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level == SOL_UDP && header->cmsg_type == UDP_GRO) {
            int segment;
            memcpy(&segment, CMSG_DATA(header), sizeof segment);
            return (size_t)segment;
        }
    }
    return 0;
}

struct tally {
    uint64_t segments, bytes, next;
};

/* Counts what one receive call brought. Returns 1 when it was the sender's LAST of this run. */
static int count(struct side *side, struct tally *tally, size_t bytes, size_t segment)
{
    for (size_t at = 0; at < bytes; at += segment) {
        struct head head = {0};
        size_t length = bytes - at < segment ? bytes - at : segment;
        if (length < DATA_HEAD)
            continue;
        memcpy(&head, side->buffer + at, DATA_HEAD);
        if (is(side, &head, LAST))
            return 1;
        if (!is(side, &head, DATA))
            continue;
        tally->segments++;
        tally->bytes += length;
        if (head.sequence >= tally->next)
            tally->next = head.sequence + 1;
    }
    return 0;
}

/* One receive call. Returns the bytes it brought, or -1. */
static ssize_t receive(struct side *side, size_t *segment)
{
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {.iov_base = side->buffer, .iov_len = sizeof side->buffer};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(side->fd, &message, MSG_DONTWAIT);
    if (got < 0 && errno != EAGAIN && errno != ECONNREFUSED)
        die("recvmsg: %s", strerror(errno));
    if (got >= 0) {
        *segment = segment_of(&message);
        if (*segment == 0)
            *segment = got > 0 ? (size_t)got : 1;
    }
    return got;
}

static void receive_all(struct side *side)
{
    struct tally tally = {0};
    uint64_t credited = 0, step = side->window / side->segment / 4;
    double start = 0, last = now_seconds(), cpu = 0;
    for (unsigned spins = 1;; spins++) {
        size_t segment;
        ssize_t got = receive(side, &segment);
        if (got < 0) {
            if (spins % SPINS_PER_CLOCK == 0 && now_seconds() - last > SILENCE_SECONDS)
                die("the sender is silent");
            continue;
        }
        if (start == 0) {
            start = now_seconds();
            cpu = cpu_seconds();
        }
        if (count(side, &tally, (size_t)got, segment))
            break;
        if (tally.next - credited >= step) {
            struct head head = {.sequence = tally.next};
            answer(side, &head, CREDIT);
            credited = tally.next;
        }
        /* One clock read per train costs nothing beside the copy. */
        last = now_seconds();
    }
    struct head summary = {.segments = tally.segments,
                           .bytes = tally.bytes,
                           .seconds = last - start,
                           .cpu_seconds = cpu_seconds() - cpu};
    answer(side, &summary, SUMMARY);
    /* The sender repeats its LAST when the summary was lost; the next run's data ends this. */
    for (double limit = now_seconds() + 3 * STALL_SECONDS; now_seconds() < limit;) {
        size_t segment;
        ssize_t got = receive(side, &segment);
        if (got > 0 && count(side, &tally, (size_t)got, segment))
            answer(side, &summary, SUMMARY);
    }
}

/* A window that the receive buffer surely holds: the kernel counts its own structures too. */
static size_t window_of(int fd)
{
    int bytes = 0;
    socklen_t length = sizeof bytes;
    if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, &length) != 0)
        die("SO_RCVBUF: %s", strerror(errno));
    return bytes / 3 < MOST_WINDOW ? (size_t)bytes / 3 : MOST_WINDOW;
}

static void measure(struct side *side, const char *directory, int buffer_bytes, double seconds)
{
    char name[64];
    int on = 1;
    snprintf(name, sizeof name, "stream-%llu", (unsigned long long)side->run);
    side->fd = open_socket(buffer_bytes);
    if (rank == 1 && setsockopt(side->fd, SOL_UDP, UDP_GRO, &on, sizeof on) != 0)
        die("UDP_GRO: %s", strerror(errno));
    side->window = window_of(side->fd);
    struct sockaddr_in peer = meet(directory, name, side->fd);
    if (connect(side->fd, (struct sockaddr *)&peer, sizeof peer) != 0)
        die("connect: %s", strerror(errno));
    if (rank == 0)
        transmit(side, seconds);
    else
        receive_all(side);
    close(side->fd);
}

int main(int argc, char **argv)
{
    static struct side side;
    const char *rank_text = getenv("PMI_RANK");
    if (argc < 5 || rank_text == NULL) {
        fputs("usage: floor_stream DIRECTORY SECONDS BUFFER_BYTES SEGMENT_BYTES..., with PMI_RANK 0 or 1\n", stderr);
        return 2;
    }
    rank = atoi(rank_text);
    /* What was measured is not lost with a run that is ended. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    double seconds = atof(argv[2]);
    alarm((unsigned)(seconds * 2 * argc) + 3 * MEET_SECONDS);
    for (int i = 4; i < argc; i++) {
        side.segment = (size_t)atol(argv[i]);
        if (side.segment < sizeof(struct head) || side.segment > LARGEST)
            die("segments of %zu bytes are not possible", side.segment);
        unsigned fit = (unsigned)(LARGEST / side.segment);
        for (int single = 0; single < 2; single++) {
            side.train = single ? 1 : fit < MOST_SEGMENTS ? fit : MOST_SEGMENTS;
            side.run++;
            measure(&side, argv[1], atoi(argv[3]), seconds);
        }
    }
    return 0;
}
