/*
 * What a library must leave alone: errno over calls that succeed, signal handlers and masks, stdout, the
 * number of threads, and descriptors across exec.
 */
#include "harness.h"
#include <dirent.h>
#include <fcntl.h>

enum { UNLIKELY_ERRNO = 4242 };

static void keeps_errno(struct node *node)
{
    struct fi_context2 context;
    struct fi_cq_tagged_entry entry;
    uint64_t word = 1, in;
    fi_addr_t self = insert(node, node->name);
    errno = UNLIKELY_ERRNO;
    (void)fi_cq_read(node->cq, &entry, 1);
    CHECK(errno == UNLIKELY_ERRNO, "fi_cq_read set errno to %d", errno);
    OK(fi_trecv(node->ep, &in, sizeof in, NULL, FI_ADDR_UNSPEC, 1, 0, &context));
    CHECK(errno == UNLIKELY_ERRNO, "fi_trecv set errno to %d", errno);
    OK(fi_tinject(node->ep, &word, sizeof word, self, 1));
    CHECK(errno == UNLIKELY_ERRNO, "fi_tinject set errno to %d", errno);
    while (fi_cq_read(node->cq, &entry, 1) == -FI_EAGAIN)
        ;
    CHECK(errno == UNLIKELY_ERRNO, "fi_cq_read set errno to %d", errno);
    (void)fi_cq_sread(node->cq, &entry, 1, NULL, 20);
    CHECK(errno == UNLIKELY_ERRNO, "fi_cq_sread set errno to %d", errno);
    (void)fi_send(node->ep, &word, (size_t)-1, NULL, self, &context);
    CHECK(errno == UNLIKELY_ERRNO, "a refused fi_send set errno to %d", errno);
}

static unsigned threads(void)
{
    unsigned count = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL, "%s", strerror(errno));
    for (struct dirent *task; (task = readdir(tasks)) != NULL;)
        count += task->d_name[0] != '.';
    closedir(tasks);
    return count;
}

int main(void)
{
    struct sigaction before[NSIG] = {0}, after;
    sigset_t mask_before, mask_after;
    struct node node;
    bool open_before[256];
    begin("");
    if (!provider_is_ours())
        skip("this is about the provider's own manners");
    /* libfabric loads every provider at the first call; some of them take signals. Only ours is allowed in. */
    setenv("FI_PROVIDER", "rdgram", 1);
    setenv("FI_RDGRAM_PROGRESS", "manual", 1);
    for (int signal = 1; signal < NSIG; signal++)
        sigaction(signal, NULL, &before[signal]);
    sigprocmask(SIG_BLOCK, NULL, &mask_before);
    for (int fd = 0; fd < 256; fd++)
        open_before[fd] = fcntl(fd, F_GETFD) >= 0;

    open_node(&node, &(struct wish){.wait = FI_WAIT_FD});
    keeps_errno(&node);

    for (int signal = 1; signal < NSIG; signal++) {
        /* PSM libraries that Debian's libfabric links take these in their constructors, before main. */
        sigaction(signal, NULL, &after);
        CHECK(after.sa_handler == before[signal].sa_handler, "a handler for signal %d was installed", signal);
    }
    sigprocmask(SIG_BLOCK, NULL, &mask_after);
    CHECK(memcmp(&mask_before, &mask_after, sizeof mask_before) == 0, "the signal mask was changed");
    CHECK(threads() == 1, "%u threads with FI_RDGRAM_PROGRESS=manual", threads());
    for (int fd = 0; fd < 256; fd++) {
        int flags = fcntl(fd, F_GETFD);
        CHECK(flags < 0 || open_before[fd] || (flags & FD_CLOEXEC), "descriptor %d stays open across exec", fd);
    }
    close_node(&node);
    return 0;
}
