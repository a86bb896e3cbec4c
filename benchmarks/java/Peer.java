import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.StringJoiner;
import java.util.UUID;
import org.apache.paimon.catalog.Catalog;
import org.apache.paimon.catalog.CatalogContext;
import org.apache.paimon.catalog.CatalogFactory;
import org.apache.paimon.catalog.Identifier;
import org.apache.paimon.data.InternalRow;
import org.apache.paimon.data.serializer.InternalRowSerializer;
import org.apache.paimon.disk.IOManager;
import org.apache.paimon.manifest.BucketEntry;
import org.apache.paimon.options.Options;
import org.apache.paimon.predicate.PredicateBuilder;
import org.apache.paimon.reader.RecordReaderIterator;
import org.apache.paimon.table.FileStoreTable;
import org.apache.paimon.table.sink.StreamTableCommit;
import org.apache.paimon.table.sink.StreamTableWrite;
import org.apache.paimon.table.sink.StreamWriteBuilder;
import org.apache.paimon.table.source.ReadBuilder;
import org.apache.paimon.table.source.Split;

/**
 * Paimon's core as a peer: commands come as lines of words on stdin, answers leave as lines of numbers on stdout.
 *
 * <p>Rows are read from an append table into memory before anything is timed. One writer commits all batches of a
 * command, as a streaming job's does.
 */
public final class Peer {

    private static final Map<String, List<InternalRow>> INPUTS = new HashMap<>();

    private interface Work {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            String[] words = line.split(" ");
            String answer;
            try {
                answer = "ok " + answer(words);
            } catch (Throwable failure) {
                failure.printStackTrace();
                answer = "failed " + String.valueOf(failure).replace('\n', ' ');
            }
            System.out.println(answer);
            System.out.flush();
        }
    }

    private static String answer(String[] words) throws Exception {
        switch (words[0]) {
            case "load":
                return load(words[1], words[2]);
            case "forget":
                INPUTS.clear();
                System.gc();
                return "";
            case "write":
                return write(table(words[1], "db.t"), List.of(words).subList(2, words.length));
            case "read":
                return read(table(words[1], "db.t"), Integer.parseInt(words[2]));
            case "compact":
                return compact(table(words[1], "db.t").copy(Map.of("write-only", "false")));
            case "plan":
                return plan(words[1], Integer.parseInt(words[2]));
            default:
                throw new IllegalArgumentException(words[0]);
        }
    }

    private static FileStoreTable table(String warehouse, String name) throws Exception {
        Options options = new Options();
        options.set("warehouse", warehouse);
        options.set("cache-enabled", "false");
        Catalog catalog = CatalogFactory.createCatalog(CatalogContext.create(options));
        return (FileStoreTable) catalog.getTable(Identifier.fromString(name));
    }

    private static String load(String warehouse, String name) throws Exception {
        FileStoreTable table = table(warehouse, name);
        InternalRowSerializer serializer = new InternalRowSerializer(table.rowType());
        List<InternalRow> rows = new ArrayList<>();
        ReadBuilder builder = table.newReadBuilder();
        for (Split split : builder.newScan().plan().splits()) {
            try (var found = new RecordReaderIterator<InternalRow>(builder.newRead().createReader(split))) {
                while (found.hasNext()) {
                    rows.add(serializer.toBinaryRow(found.next()).copy());
                }
            }
        }
        INPUTS.put(name, rows);
        return String.valueOf(rows.size());
    }

    private static String write(FileStoreTable table, List<String> inputs) throws Exception {
        StreamWriteBuilder builder = table.newStreamWriteBuilder().withCommitUser(UUID.randomUUID().toString());
        StringJoiner seconds = new StringJoiner(" ");
        try (IOManager spills = IOManager.create(System.getProperty("java.io.tmpdir"));
                StreamTableWrite write = builder.newWrite();
                StreamTableCommit commit = builder.newCommit()) {
            write.withIOManager(spills);
            long identifier = 0;
            for (String input : inputs) {
                long number = ++identifier;
                List<InternalRow> rows = INPUTS.get(input);
                seconds.add(seconds(() -> {
                    for (InternalRow row : rows) {
                        write.write(row);
                    }
                    commit.commit(number, write.prepareCommit(true, number));
                }));
            }
        }
        return seconds.toString();
    }

    private static String read(FileStoreTable table, int times) throws Exception {
        StringJoiner seconds = new StringJoiner(" ");
        long[] count = new long[1];
        for (int i = 0; i < times; i++) {
            count[0] = 0;
            seconds.add(seconds(() -> {
                ReadBuilder builder = table.newReadBuilder();
                for (Split split : builder.newScan().plan().splits()) {
                    try (var rows = new RecordReaderIterator<InternalRow>(builder.newRead().createReader(split))) {
                        while (rows.hasNext()) {
                            rows.next();
                            count[0]++;
                        }
                    }
                }
            }));
        }
        return count[0] + " " + seconds;
    }

    private static String compact(FileStoreTable table) throws Exception {
        StreamWriteBuilder builder = table.newStreamWriteBuilder().withCommitUser(UUID.randomUUID().toString());
        List<BucketEntry> buckets = table.newSnapshotReader().bucketEntries();
        try (IOManager spills = IOManager.create(System.getProperty("java.io.tmpdir"));
                StreamTableWrite write = builder.newWrite();
                StreamTableCommit commit = builder.newCommit()) {
            write.withIOManager(spills);
            return seconds(() -> {
                for (BucketEntry bucket : buckets) {
                    write.compact(bucket.partition(), bucket.bucket(), true);
                }
                commit.commit(1, write.prepareCommit(true, 1));
            });
        }
    }

    /** Plans of a new handle each time, of the whole table, or where the first partition column has a value. */
    private static String plan(String warehouse, int partition) throws Exception {
        FileStoreTable table = table(warehouse, "db.t");
        long[] files = new long[1];
        String seconds = seconds(() -> {
            ReadBuilder builder = table.newReadBuilder();
            if (partition >= 0) {
                builder.withFilter(new PredicateBuilder(table.rowType()).equal(0, partition));
            }
            files[0] = builder.newScan().plan().splits().size();
        });
        return files[0] + " " + seconds;
    }

    private static String seconds(Work work) throws Exception {
        System.gc();
        long started = System.nanoTime();
        work.run();
        return String.valueOf((System.nanoTime() - started) / 1e9);
    }
}
