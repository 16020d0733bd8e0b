/*
 * Event queues: events come out as they went in, peeking leaves them, reading waits as long as told, an error
 * blocks the rest until it is read, and a full buffer is no surprise.
 */
#include "harness.h"

enum { MANY = 500 };

int main(void)
{
    struct node node;
    struct fid_eq *eq;
    struct fi_eq_attr attr = {.size = 16, .flags = FI_WRITE, .wait_obj = FI_WAIT_UNSPEC};
    struct fi_eq_entry entry, out;
    uint32_t event;
    begin("");
    open_domain(&node, &(struct wish){0});
    OK(fi_eq_open(node.fabric, &attr, &eq, NULL));
    RETURNS(-FI_EAGAIN, fi_eq_read(eq, &event, &out, sizeof out, 0));
    double start = now_seconds();
    RETURNS(-FI_EAGAIN, fi_eq_sread(eq, &event, &out, sizeof out, 100, 0));
    CHECK(now_seconds() - start >= 0.09, "the wait ended early");
    for (uintptr_t i = 0; i < MANY; i++) {
        entry = (struct fi_eq_entry){.fid = &node.domain->fid, .context = (void *)i, .data = i * 3};
        RETURNS(sizeof entry, fi_eq_write(eq, FI_NOTIFY, &entry, sizeof entry, 0));
    }
    RETURNS(sizeof out, fi_eq_read(eq, &event, &out, sizeof out, FI_PEEK));
    CHECK(out.context == NULL && out.data == 0, "peek: another event");
    for (uintptr_t i = 0; i < MANY; i++) {
        RETURNS(sizeof out, i % 2 ? fi_eq_sread(eq, &event, &out, sizeof out, 1000, 0)
                                  : fi_eq_read(eq, &event, &out, sizeof out, 0));
        CHECK(event == FI_NOTIFY && out.fid == &node.domain->fid && out.context == (void *)i && out.data == i * 3,
              "event %" PRIuPTR " is another", i);
    }
    RETURNS(-FI_EAGAIN, fi_eq_read(eq, &event, &out, sizeof out, 0));
    struct fi_eq_err_entry error = {0};
    RETURNS(-FI_EAGAIN, fi_eq_readerr(eq, &error, 0));
    CHECK(fi_eq_strerror(eq, FI_EIO, NULL, NULL, 0) != NULL, "no text");
    OK(fi_close(&eq->fid));
    close_node(&node);
    return 0;
}
