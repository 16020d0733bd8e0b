/*
 * Operations of more than 4 GiB: a tagged message, a write and a read, every byte of them checked against where it
 * belongs. The memory is one window mapped again and again, so that it costs neither side more than that; its
 * length is no multiple of anything that data is cut by, so that a wrong place shows as wrong bytes.
 */
#include "harness.h"

#include <sys/mman.h>

enum { PAGE = 4096, WINDOW = 61 * 1024 * PAGE / 4 + 3 * PAGE };
static const size_t length = ((size_t)4 << 30) + 12345;

static struct node node;
static struct peer peer;
static struct fi_context2 context;

/* `length` bytes of address space whose content repeats. */
static uint8_t *map_repeatedly(void)
{
    size_t whole = (length / WINDOW + 1) * WINDOW;
    int fd = memfd_create("window", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, WINDOW) == 0, "%s", strerror(errno));
    uint8_t *memory = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(memory != MAP_FAILED, "%s", strerror(errno));
    for (size_t at = 0; at < whole; at += WINDOW)
        CHECK(mmap(memory + at, WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED, "%s",
              strerror(errno));
    close(fd);
    return memory;
}

static void wait_long(struct fi_cq_tagged_entry *entry)
{
    CHECK(completion_within(&node, entry, PROGRAM_SECONDS), "no completion");
    CHECK(entry->op_context == &context, "a completion of another operation");
}

static void first(uint8_t *memory)
{
    struct fi_cq_tagged_entry entry;
    pattern_fill(memory, WINDOW, 1);
    meet(&peer, &node);
    RETRY(&node, fi_tsend(node.ep, memory, length, NULL, peer.address, 7, &context));
    wait_long(&entry);
    meet(&peer, &node);
    pattern_fill(memory, WINDOW, 2);
    RETRY(&node, fi_write(node.ep, memory, length, NULL, peer.address, 0, 1, &context));
    wait_long(&entry);
    meet(&peer, &node);
    meet(&peer, &node);
    RETRY(&node, fi_read(node.ep, memory, length, NULL, peer.address, 0, 1, &context));
    wait_long(&entry);
    pattern_check(memory, WINDOW, 3, "read");
    meet(&peer, &node);
}

static void second(uint8_t *memory)
{
    struct fi_cq_tagged_entry entry;
    struct fid_mr *region;
    OK(fi_mr_reg(node.domain, memory, length, FI_REMOTE_READ | FI_REMOTE_WRITE, 0, 1, 0, &region, NULL));
    OK(fi_trecv(node.ep, memory, length, NULL, peer.address, 7, 0, &context));
    meet(&peer, &node);
    wait_long(&entry);
    CHECK(entry.len == length, "%zu of %zu bytes", entry.len, length);
    pattern_check(memory, WINDOW, 1, "message");
    meet(&peer, &node);
    meet(&peer, &node);
    pattern_check(memory, WINDOW, 2, "write");
    pattern_fill(memory, WINDOW, 3);
    meet(&peer, &node);
    meet(&peer, &node);
    OK(fi_close(&region->fid));
}

int main(void)
{
    bool child = start_peer(&peer);
    uint8_t *memory = map_repeatedly();
    open_node(&node, &(struct wish){.caps = FI_MSG | FI_TAGGED | FI_RMA, .optional = true});
    CHECK(!provider_is_ours() || node.info->ep_attr->max_msg_size >= length, "messages of at most %zu bytes",
          node.info->ep_attr->max_msg_size);
    if (node.info->ep_attr->max_msg_size < length)
        skip("%s takes messages of at most %zu bytes", provider_name(), node.info->ep_attr->max_msg_size);
    if ((node.info->domain_attr->mr_mode & (FI_MR_VIRT_ADDR | FI_MR_PROV_KEY)) != 0)
        skip("regions are named differently elsewhere");
    introduce(&peer, &node);
    (child ? second : first)(memory);
    close_node(&node);
    return finish_peer(&peer);
}
