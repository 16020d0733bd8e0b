/*
 * How the two processes of a floor find each other: each writes the port of its socket into a directory
 * both can see, and waits for the other's. Addresses come from tests/net/hosts.sh, or are the loopback's.
 * Nothing of MPI or libfabric may be used here: a floor is what the bare kernel does.
 */
#ifndef RDGRAM_BENCH_MEET_H
#define RDGRAM_BENCH_MEET_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* A peer that does not come in this time never will. */
enum { MEET_SECONDS = 20 };

static int rank;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "rank %d: ", rank);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static struct sockaddr_in address_of(int of_rank)
{
    const char *host = getenv(of_rank == 0 ? "RDGRAM_NET_ADDRESS_A" : "RDGRAM_NET_ADDRESS_B");
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (inet_pton(AF_INET, host != NULL ? host : "127.0.0.1", &address.sin_addr) != 1)
        die("no address: %s", host);
    return address;
}

/* A socket on this rank's address, with these buffers where they are not 0. */
static int open_socket(int buffer_bytes)
{
    struct sockaddr_in address = address_of(rank);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        die("socket: %s", strerror(errno));
    if (buffer_bytes != 0) {
        /* Beyond the limit the kernel gives what it allows. */
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes);
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
    }
    return fd;
}

/* Publishes the port of `fd` under `name` in `directory` and returns the other rank's address. */
static struct sockaddr_in meet(const char *directory, const char *name, int fd)
{
    char path[512], staged[520];
    struct sockaddr_in own, peer = address_of(1 - rank);
    socklen_t length = sizeof own;
    if (getsockname(fd, (struct sockaddr *)&own, &length) != 0)
        die("getsockname: %s", strerror(errno));
    snprintf(path, sizeof path, "%s/%s-%d", directory, name, rank);
    snprintf(staged, sizeof staged, "%s.new", path);
    FILE *file = fopen(staged, "w");
    if (file == NULL || fprintf(file, "%u\n", ntohs(own.sin_port)) < 0 || fclose(file) != 0)
        die("cannot write %s", staged);
    /* Renamed into place, so that nobody reads half a number. */
    if (rename(staged, path) != 0)
        die("cannot write %s", path);
    snprintf(path, sizeof path, "%s/%s-%d", directory, name, 1 - rank);
    for (double limit = now_seconds() + MEET_SECONDS; now_seconds() < limit; usleep(1000)) {
        unsigned port;
        file = fopen(path, "r");
        if (file == NULL)
            continue;
        int fields = fscanf(file, "%u", &port);
        fclose(file);
        if (fields != 1)
            die("cannot read %s", path);
        peer.sin_port = htons((uint16_t)port);
        return peer;
    }
    die("the other rank did not come");
}

#endif
