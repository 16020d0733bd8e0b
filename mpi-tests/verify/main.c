/*
 * verify: MPI programs with seeded patterns, checked byte for byte.
 *
 *   mpirun -n N verify [SEED] [[-]TEST...]    with the tests or groups of these names, or without them
 *   verify --list [[-]TEST...]                 the names of those tests, without MPI
 *
 * The groups are two-sided and one-sided. Prints "verify: passed" for each test and "verify: N checks passed" at
 * the end and returns 0, or ends the job at the first wrong byte.
 */
#include "verify.h"

int rank, ranks;
uint64_t seed = 1;

static const char *current = "start";
static uint64_t checks;

void fail(const char *format, ...)
{
    va_list arguments;
    fflush(stdout);
    fprintf(stderr, "verify: FAILED in '%s' on rank %d of %d, seed %llu: ", current, rank, ranks,
            (unsigned long long)seed);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    fflush(stderr);
    MPI_Abort(MPI_COMM_WORLD, 1);
    abort();
}

void mpi_failed(const char *call, int code, const char *file, int line)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length;
    MPI_Error_string(code, text, &length);
    fail("%s:%d: %s: %s", file, line, call, text);
}

void *allocate(size_t length)
{
    void *memory = malloc(length + 1);
    if (memory == NULL)
        fail("no memory for %zu bytes", length);
    return memory;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t base_of(struct stream stream)
{
    uint64_t ends = (uint64_t)(uint32_t)stream.source << 32 | (uint32_t)stream.destination;
    return mix(mix(mix(seed + 0x9e3779b97f4a7c15u) + ends) + stream.number);
}

/* Eight bytes of a stream; a shift, an exchange or a repetition of any part shows. */
static uint64_t word_at(uint64_t base, size_t index)
{
    return mix(base + index * 0x9e3779b97f4a7c15u);
}

void fill(void *buffer, size_t length, struct stream stream)
{
    uint64_t base = base_of(stream);
    uint8_t *bytes = buffer;
    for (size_t at = 0; at < length; at += 8) {
        uint64_t word = word_at(base, at / 8);
        memcpy(bytes + at, &word, length - at < 8 ? length - at : 8);
    }
}

void check_bytes(const void *buffer, size_t length, struct stream stream)
{
    uint64_t base = base_of(stream);
    const uint8_t *bytes = buffer;
    for (size_t at = 0; at < length; at += 8) {
        uint64_t word = word_at(base, at / 8);
        size_t piece = length - at < 8 ? length - at : 8;
        if (memcmp(bytes + at, &word, piece) == 0)
            continue;
        while (bytes[at] == (uint8_t)word) {
            at++;
            word >>= 8;
        }
        fail("message %llu from %d to %d: byte %zu of %zu is 0x%02x, expected 0x%02x",
             (unsigned long long)stream.number, stream.source, stream.destination, at, length, bytes[at],
             (unsigned)(uint8_t)word);
    }
    checks++;
}

void check_untouched(const void *buffer, size_t length, const char *where)
{
    const uint8_t *bytes = buffer;
    for (size_t at = 0; at < length; at++)
        if (bytes[at] != UNTOUCHED)
            fail("%s: byte %zu of %zu was overwritten with 0x%02x", where, at, length, bytes[at]);
    checks++;
}

int64_t value_of(struct stream stream, size_t index)
{
    /* Small enough that sums and products of a few stay exact. */
    return (int64_t)(word_at(base_of(stream), index) % 2000003) - 1000001;
}

void check_value(int64_t actual, int64_t expected, const char *what)
{
    if (actual != expected)
        fail("%s: is %lld, expected %lld", what, (long long)actual, (long long)expected);
    checks++;
}

void check_same(const void *actual, const void *expected, size_t length, const char *what)
{
    const uint8_t *one = actual, *other = expected;
    if (memcmp(one, other, length) != 0) {
        size_t at = 0;
        while (one[at] == other[at])
            at++;
        fail("%s: byte %zu of %zu is 0x%02x, expected 0x%02x", what, at, length, one[at], other[at]);
    }
    checks++;
}

void check_status(const MPI_Status *status, int source, int tag, size_t bytes)
{
    MPI_Count count;
#if MPI_VERSION < 4
    MPI(MPI_Get_elements_x(status, MPI_BYTE, &count));
#else
    MPI(MPI_Get_elements_c(status, MPI_BYTE, &count));
#endif
    if (status->MPI_SOURCE != source || status->MPI_TAG != tag || count != (MPI_Count)bytes)
        fail("status: source %d tag %d with %lld bytes, expected source %d tag %d with %zu bytes",
             status->MPI_SOURCE, status->MPI_TAG, (long long)count, source, tag, bytes);
    checks++;
}

struct random random_of(uint64_t number)
{
    return (struct random){mix(seed * 0x9e3779b97f4a7c15u + number)};
}

uint64_t random_next(struct random *random)
{
    random->state += 0x9e3779b97f4a7c15u;
    return mix(random->state);
}

size_t random_below(struct random *random, size_t bound)
{
    return (size_t)(random_next(random) % bound);
}

void random_shuffle(struct random *random, int *items, size_t count)
{
    for (size_t i = count; i > 1; i--) {
        size_t other = random_below(random, i);
        int item = items[i - 1];
        items[i - 1] = items[other];
        items[other] = item;
    }
}

size_t random_size(struct random *random, size_t largest)
{
    static const size_t thresholds[] = {1024, 1400, 4096, 8192, 16384, 65507, 65536, 262144};
    size_t kind = random_below(random, 16), size;
    if (kind < 8)
        size = random_below(random, 200);
    else if (kind < 12)
        size = random_below(random, 9000);
    else if (kind < 15)
        size = thresholds[random_below(random, sizeof thresholds / sizeof *thresholds)] + random_below(random, 3) - 1;
    else
        size = random_below(random, largest);
    return size < largest ? size : largest;
}

static const struct group {
    const char *name;
    const struct test *lists[8];
} groups[] = {
    {"two-sided", {sending_tests, receiving_tests, datatype_tests, collective_tests, nonblocking_tests}},
    {"one-sided", {onesided_tests, epoch_tests, window_tests, accumulate_tests, atomic_tests}},
};
enum { GROUPS = sizeof groups / sizeof *groups };

/* Without names all tests; names choose, names with a minus before them leave out. */
static bool chosen(const char *group, const char *name, int count, char **names)
{
    bool all = true, found = false;
    for (int i = 0; i < count; i++) {
        bool minus = names[i][0] == '-';
        const char *of = names[i] + minus;
        bool is = strcmp(of, name) == 0 || strcmp(of, group) == 0;
        if (is && minus)
            return false;
        found = found || is;
        all = all && minus;
    }
    return found || all;
}

static uint64_t together(uint64_t of_one)
{
    uint64_t all = 0;
    MPI(MPI_Reduce(&of_one, &all, 1, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD));
    return all;
}

static void run(const struct test *test)
{
    double start = MPI_Wtime();
    uint64_t before = checks;
    current = test->name;
    test->run();
    MPI(MPI_Barrier(MPI_COMM_WORLD));
    uint64_t made = together(checks - before);
    if (rank == 0) {
        printf("verify: passed %-24s %8llu checks %6.2f s\n", test->name, (unsigned long long)made,
               MPI_Wtime() - start);
        fflush(stdout);
    }
}

static void each_chosen(int count, char **names, void (*action)(const struct test *test))
{
    for (int group = 0; group < GROUPS; group++)
        for (const struct test *const *list = groups[group].lists; *list != NULL; list++)
            for (const struct test *test = *list; test->name != NULL; test++)
                if (chosen(groups[group].name, test->name, count, names))
                    action(test);
}

static void print_name(const struct test *test)
{
    puts(test->name);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--list") == 0) {
        each_chosen(argc - 2, argv + 2, print_name);
        return 0;
    }
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    if (argc > 1)
        seed = strtoull(argv[1], NULL, 0);
    each_chosen(argc > 2 ? argc - 2 : 0, argv + 2, run);
    current = "end";
    uint64_t all = together(checks);
    if (rank == 0) {
        if (all == 0)
            fail("no check was made: no such test");
        printf("verify: %llu checks passed, %d ranks, seed %llu\n", (unsigned long long)all, ranks,
               (unsigned long long)seed);
    }
    MPI_Finalize();
    return 0;
}
