import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import io.netty.channel.Channel;
import java.util.Collection;
import java.util.List;
import java.util.Set;
import org.h2.mvstore.MVStore;

/**
 * A server that speaks MongoDB's protocol, over a file. For tests where the genuine server cannot be had.
 *
 * <p>Arguments: port, file.
 */
public final class Mongo {
    /** Today's drivers want wire version 9 at least; the library says 8 although it knows what they send then. */
    private static final MongoVersion VERSION = new MongoVersion() {
        @Override
        public List<Integer> getVersionArray() {
            return List.of(4, 4, 0);
        }

        @Override
        public int getWireVersion() {
            return 9;
        }
    };

    private static final Set<String> READS = Set.of(
            "find", "getMore", "count", "distinct", "aggregate", "ping", "hello", "ismaster", "isMaster", "buildInfo",
            "buildinfo", "listCollections", "listDatabases", "listIndexes", "serverStatus", "killCursors", "endSessions");

    /** Has every write in the file before it is answered: otherwise a killed server forgets its last second. */
    private static final class Durable extends H2Backend {
        Durable(MVStore store) {
            super(store);
        }

        @Override
        public Document handleMessage(MongoMessage message) {
            Document answer = super.handleMessage(message);
            Document asked = message.getDocument();
            String command = asked.keySet().iterator().next();
            if (!READS.contains(command)) {
                commit();
            }
            // The library counts refused documents of an unordered insert as inserted.
            if (command.equals("insert") && Boolean.FALSE.equals(asked.get("ordered"))
                    && answer.get("writeErrors") instanceof Collection<?> refused
                    && asked.get("documents") instanceof Collection<?> documents) {
                answer.put("n", documents.size() - refused.size());
            }
            return answer;
        }

        @Override
        public Document handleCommand(Channel channel, String database, String command, Document query) {
            Document answer = super.handleCommand(channel, database, command, query);
            if (!READS.contains(command)) {
                commit();
            }
            return answer;
        }
    }

    public static void main(String[] arguments) throws InterruptedException {
        // Whole collections are scanned where MongoDB would use an index: in memory, and not unpacked each time.
        MVStore store = new MVStore.Builder().fileName(arguments[1]).autoCommitDisabled().cacheSize(512).open();
        MongoServer server = new MongoServer(new Durable(store).version(VERSION));
        server.bind("127.0.0.1", Integer.parseInt(arguments[0]));
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
        System.out.println("ready");
        Thread.currentThread().join();
    }
}
