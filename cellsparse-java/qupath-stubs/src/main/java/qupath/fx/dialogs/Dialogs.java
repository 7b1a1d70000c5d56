package qupath.fx.dialogs;

/** Message boxes. */
public class Dialogs {
    public static void showErrorMessage(String title, String message) {
        throw new UnsupportedOperationException();
    }

    public static void showWarningNotification(String title, String message) {
        throw new UnsupportedOperationException();
    }

    public static void showInfoNotification(String title, String message) {
        throw new UnsupportedOperationException();
    }

    public static boolean showConfirmDialog(String title, String text) {
        throw new UnsupportedOperationException();
    }

    public static String showInputDialog(String title, String message, String initialInput) {
        throw new UnsupportedOperationException();
    }
}
