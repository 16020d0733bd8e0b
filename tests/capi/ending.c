/*
 * How processes end: with everything open, with everything closed, after libfabric was loaded by dlopen and
 * closed again (with RTLD_LOCAL, as some programs do): always with status 0, promptly, and without a word.
 */
#include "harness.h"
#include <dlfcn.h>
#include <fcntl.h>

static void leave_open(void)
{
    struct node node;
    open_node(&node, &(struct wish){.counters = true});
    exit(0);
}

/* What one domain injected waits for another of the same process, and nobody drives that one any more. */
static void leave_two_domains_open(void)
{
    struct node nodes[2];
    uint64_t word = 1;
    for (unsigned i = 0; i < 2; i++)
        open_node(&nodes[i], &(struct wish){0});
    RETRY(&nodes[0], fi_tinject(nodes[0].ep, &word, sizeof word, insert(&nodes[0], nodes[1].name), 1));
    exit(0);
}

static void close_all(void)
{
    struct node node;
    open_node(&node, &(struct wish){.counters = true});
    close_node(&node);
    exit(0);
}

static void exit_from_thread_with_open_node(void)
{
    static struct node node;
    open_node(&node, &(struct wish){.threading = FI_THREAD_SAFE});
    _Exit(0);
}

/* This program links libfabric itself; a second copy of the process image that does not is made by exec. */
static void loaded_privately(const char *program)
{
    execl(program, program, "private", (char *)NULL);
    FAIL("exec: %s", strerror(errno));
}

typedef int getinfo_function(uint32_t, const char *, const char *, uint64_t, const struct fi_info *, struct fi_info **);
typedef void freeinfo_function(struct fi_info *);

static int use_dlopen(void)
{
    void *library = dlopen("libfabric.so.1", RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL, "%s", dlerror());
    getinfo_function *getinfo = (getinfo_function *)dlsym(library, "fi_getinfo");
    freeinfo_function *freeinfo = (freeinfo_function *)dlsym(library, "fi_freeinfo");
    CHECK(getinfo != NULL && freeinfo != NULL, "%s", dlerror());
    struct fi_info *info, *one;
    int result = getinfo(FI_VERSION(1, 17), NULL, NULL, 0, NULL, &info);
    RETURNS(0, result);
    for (one = info; one != NULL; one = one->next)
        if (strcmp(one->fabric_attr->prov_name, provider_name()) == 0)
            break;
    CHECK(one != NULL, "%s is not offered", provider_name());
    freeinfo(info);
    CHECK(dlclose(library) == 0, "%s", dlerror());
    return 0;
}

/* Run one ending in a process of its own: what it prints must be nothing. */
static void ends_well(const char *what, void (*ending)(void), const char *program)
{
    int fds[2], status;
    char text[4096];
    double start = now_seconds();
    CHECK(pipe(fds) == 0, "%s", strerror(errno));
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0, "%s", strerror(errno));
    if (pid == 0) {
        close(fds[0]);
        dup2(fds[1], STDOUT_FILENO);
        begin(what);
        if (ending != NULL)
            ending();
        else
            loaded_privately(program);
    }
    close(fds[1]);
    ssize_t length = read(fds[0], text, sizeof text - 1);
    text[length > 0 ? length : 0] = '\0';
    close(fds[0]);
    CHECK(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_SKIPPED)
        skip("%s does not offer what this program needs", provider_name());
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: status 0x%x", what, (unsigned)status);
    CHECK(length == 0, "%s: printed on stdout: %s", what, text);
    CHECK(now_seconds() - start < 5, "%s: took %.1f s", what, now_seconds() - start);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "private") == 0) {
        begin("private");
        return use_dlopen();
    }
    begin("");
    ends_well("exit with everything open", leave_open, NULL);
    ends_well("exit with two domains open", leave_two_domains_open, NULL);
    ends_well("exit with everything closed", close_all, NULL);
    ends_well("_Exit with everything open", exit_from_thread_with_open_node, NULL);
    ends_well("dlopen and dlclose", NULL, argv[0]);
    return 0;
}
