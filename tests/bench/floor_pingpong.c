/*
 * The latency floor: two processes exchange UDP datagrams by bare system calls, spinning on a receive that
 * does not block. No engine, no header, no matching: nothing between user space and the kernel can be faster.
 *
 *   floor_pingpong DIRECTORY SECONDS        rank from PMI_RANK, 0 or 1
 *
 * Prints for every size "bench: pingpong kind=connected|unconnected bytes=N us=HALF_ROUND_TRIP lost=N".
 */
#define _GNU_SOURCE
#include "meet.h"

/* Datagrams for which no answer came in this time are sent again, and counted as lost. */
static const double RESEND_SECONDS = 0.05;
enum { LARGEST = 8192, WARM_UP = 200, SPINS_PER_CLOCK = 4096, PER_CLOCK = 10 };
static const size_t SIZES[] = {8, 64, 256, 1024, 4096, 8192};
static const uint64_t END = UINT64_MAX;

struct side {
    int fd;
    struct sockaddr_in peer;
    int connected;
    uint64_t buffer[LARGEST / 8];
};

static void send_to(struct side *side, size_t bytes)
{
    ssize_t sent = side->connected ? send(side->fd, side->buffer, bytes, 0)
                                   : sendto(side->fd, side->buffer, bytes, 0, (struct sockaddr *)&side->peer,
                                            sizeof side->peer);
    /* A refusal reported late, of an answer to a peer that had already ended, concerns an earlier send. */
    if (sent < 0 && errno != ECONNREFUSED)
        die("send: %s", strerror(errno));
}

/* One datagram if there is one: its length, else -1. */
static ssize_t receive(struct side *side)
{
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    ssize_t got = side->connected
                      ? recv(side->fd, side->buffer, sizeof side->buffer, MSG_DONTWAIT)
                      : recvfrom(side->fd, side->buffer, sizeof side->buffer, MSG_DONTWAIT,
                                 (struct sockaddr *)&from, &length);
    if (got < 0 && errno != EAGAIN && errno != ECONNREFUSED)
        die("receive: %s", strerror(errno));
    return got;
}

/* Sends number `sequence` until it comes back. Returns how often it had to be sent again. */
static unsigned exchange(struct side *side, size_t bytes, uint64_t sequence)
{
    for (unsigned resent = 0; resent < 100; resent++) {
        side->buffer[0] = sequence;
        send_to(side, bytes);
        double limit = 0;
        for (unsigned spins = 1;; spins++) {
            if (receive(side) >= 8 && side->buffer[0] == sequence)
                return resent;
            if (spins % SPINS_PER_CLOCK == 0) {
                double now = now_seconds();
                if (limit == 0)
                    limit = now + RESEND_SECONDS;
                else if (now > limit)
                    break;
            }
        }
    }
    die("no answer to datagrams of %zu bytes", bytes);
}

static void lead(struct side *side, double seconds)
{
    uint64_t sequence = 0;
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        unsigned lost = 0;
        uint64_t trips = 0;
        /* On a busy machine a trip may take a time slice: nothing here is bounded by a count alone. */
        double start = now_seconds(), end = start;
        for (int warm = 0; warm < WARM_UP && now_seconds() - start < seconds; warm++)
            lost += exchange(side, SIZES[i], ++sequence);
        start = now_seconds();
        do {
            for (int block = 0; block < PER_CLOCK; block++)
                lost += exchange(side, SIZES[i], ++sequence);
            trips += PER_CLOCK;
            end = now_seconds();
        } while (end - start < seconds);
        printf("bench: pingpong kind=%s bytes=%zu us=%.3f lost=%u\n",
               side->connected ? "connected" : "unconnected", SIZES[i], (end - start) * 1e6 / (double)trips / 2,
               lost);
    }
    exchange(side, 8, END);
}

static void follow(struct side *side)
{
    for (;;) {
        ssize_t got = receive(side);
        if (got < 8)
            continue;
        uint64_t sequence = side->buffer[0];
        send_to(side, (size_t)got);
        if (sequence == END)
            return;
    }
}

int main(int argc, char **argv)
{
    const char *rank_text = getenv("PMI_RANK");
    if (argc != 3 || rank_text == NULL) {
        fputs("usage: floor_pingpong DIRECTORY SECONDS, with PMI_RANK 0 or 1\n", stderr);
        return 2;
    }
    rank = atoi(rank_text);
    /* What was measured is not lost with a run that is ended. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    double seconds = atof(argv[2]);
    /* A rank whose peer died spins for ever otherwise. */
    alarm((unsigned)(seconds * 30) + 2 * MEET_SECONDS);
    for (int connected = 0; connected < 2; connected++) {
        static struct side side;
        side.connected = connected;
        side.fd = open_socket(0);
        side.peer = meet(argv[1], connected ? "connected" : "unconnected", side.fd);
        if (connected && connect(side.fd, (struct sockaddr *)&side.peer, sizeof side.peer) != 0)
            die("connect: %s", strerror(errno));
        if (rank == 0)
            lead(&side, seconds);
        else
            follow(&side);
        close(side.fd);
    }
    return 0;
}
