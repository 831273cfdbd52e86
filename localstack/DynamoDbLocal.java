// Starts AWS's DynamoDB Local on the loopback interface alone, on a port that the system chooses, and
// prints its URL, and nothing else, when it listens. By itself it listens on every interface, and
// has no option against that.
//
//   java -cp HOME/DynamoDBLocal.jar localstack/DynamoDbLocal.java -inMemory -sharedDb
//
// Java runs this source as it is. For DynamoDB Local 3.x.
import java.io.PrintStream;
import java.lang.reflect.Field;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import software.amazon.dynamodb.services.local.main.ServerRunner;
import software.amazon.dynamodb.services.local.server.DynamoDBProxyServer;

public class DynamoDbLocal {
  private static final String HOST = "127.0.0.1";

  public static void main(String[] options) throws Exception {
    PrintStream stdout = System.out;
    // It prints its settings, the port among them, which is another one here.
    System.setOut(System.err);
    DynamoDBProxyServer proxy = ServerRunner.createServerFromCommandLineArgs(options);
    ServerConnector connector = connector(proxy);
    connector.setHost(HOST);
    connector.setPort(0);
    proxy.start();
    stdout.println("http://" + HOST + ":" + connector.getLocalPort());
  }

  private static ServerConnector connector(DynamoDBProxyServer proxy) throws ReflectiveOperationException {
    Field server = DynamoDBProxyServer.class.getDeclaredField("server");
    server.setAccessible(true);
    return (ServerConnector) ((Server) server.get(proxy)).getConnectors()[0];
  }
}
